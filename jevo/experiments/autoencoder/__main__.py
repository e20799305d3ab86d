from jevo.experiments.autoencoder import EXPERIMENT
from jevo.runs import main

if __name__ == "__main__":
    main(EXPERIMENT)
