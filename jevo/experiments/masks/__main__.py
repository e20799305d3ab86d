from jevo.experiments.masks import EXPERIMENT
from jevo.runs import main

if __name__ == "__main__":
    main(EXPERIMENT)
