from jevo.experiments.weights import EXPERIMENT
from jevo.runs import main

if __name__ == "__main__":
    main(EXPERIMENT)
