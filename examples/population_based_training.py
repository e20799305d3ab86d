"""Population-based training: each network has a learning rate of its own, and at first all are too low. In each cycle
copies of the best, at other rates, replace the worst quarter. The control is the same population without copies."""

import jax
import optax
from sklearn.datasets import load_digits

from jevo import genetics, networks, population, training

x, y = map(jax.numpy.asarray, load_digits(return_X_y=True))
train, validation, test = ((x[i::3] / 16, y[i::3]) for i in range(3))
network = networks.mlp([64, 32, 10])
optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=0.0)  # Its state holds the learning rate.


def init(key):
    member = training.learner(network.init, optimizer)(key)
    drawn = jax.random.uniform(jax.random.fold_in(key, 1), minval=-4, maxval=-2)
    member.optimizer.hyperparams["learning_rate"] = 10**drawn
    return member


def loss(params, batch, key=None):
    return -training.log_likelihood(network.apply(params, batch[0]), batch[1])


def learn(key, members):
    members, _ = training.train(key, members, train, loss, optimizer, steps=30, batch_size=64)
    return members, training.evaluate(lambda params: -loss(params, validation), members.params, 16)


rates = genetics.route(optimizer=genetics.route(hyperparams=genetics.route(learning_rate=genetics.perturb(1.5))))
copying = genetics.genetic(genetics.truncation(0.25), genetics.clone(), rates, elites=0.75, rescore=True)
first = copying.init(population.init(jax.random.key(0), init, 16), jax.numpy.zeros(16))
copies = lambda _, state: genetics.lamarckian(copying, learn, jax.random.key(2), state)
none = lambda i, state: genetics.replaced(state, *learn(jax.random.key(i), state.population))
for name, cycle in {"copies": copies, "no copies": none}.items():
    state = jax.lax.fori_loop(0, 20, cycle, first)
    best = population.take(state.population, state.fitness.argmax())
    print(f"{name:9} test loss {loss(best.params, test):.3f}", best.optimizer.hyperparams)
