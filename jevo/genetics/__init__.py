"""Selection, crossover, mutation, and the algorithm that puts them together."""

from jevo.genetics.algorithm import Candidates as Candidates
from jevo.genetics.algorithm import GeneticAlgorithm as GeneticAlgorithm
from jevo.genetics.algorithm import State as State
from jevo.genetics.algorithm import generation as generation
from jevo.genetics.algorithm import genetic as genetic
from jevo.genetics.algorithm import random_search as random_search
from jevo.genetics.alignment import aligned as aligned
from jevo.genetics.alignment import follow as follow
from jevo.genetics.combine import chain as chain
from jevo.genetics.combine import route as route
from jevo.genetics.crossover import average as average
from jevo.genetics.crossover import clone as clone
from jevo.genetics.crossover import one_point as one_point
from jevo.genetics.crossover import uniform as uniform
from jevo.genetics.mutation import flip as flip
from jevo.genetics.mutation import gaussian as gaussian
from jevo.genetics.mutation import perturb as perturb
from jevo.genetics.mutation import redraw as redraw
from jevo.genetics.mutation import reset as reset
from jevo.genetics.mutation import step as step
from jevo.genetics.mutation import zero as zero
from jevo.genetics.selection import leaders as leaders
from jevo.genetics.selection import rank as rank
from jevo.genetics.selection import roulette as roulette
from jevo.genetics.selection import tournament as tournament
from jevo.genetics.selection import truncation as truncation
