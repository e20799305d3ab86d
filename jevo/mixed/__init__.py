"""Networks of different widths, depths, activations and optimizers, trained in a few shared compiled programs."""

from jevo.mixed.architectures import GENES, Architecture, Conv, architecture, check_genes, largest
from jevo.mixed.cluster import ray_backend
from jevo.mixed.executors import Backend, Executor, MakeExecutor, jobs_at_once, thread_executor
from jevo.mixed.planner import COSTS, Costs, Plan, plan
from jevo.mixed.progress import Kept, Progress
from jevo.mixed.trainable import MixedTrainer, RungPlan
from jevo.mixed.unpadded import network
from jevo.mixed.worker import Job, MemberResult, MemberSpec, Training, Worker

__all__ = [
    "COSTS",
    "GENES",
    "Architecture",
    "Backend",
    "Conv",
    "Costs",
    "Executor",
    "Job",
    "Kept",
    "MakeExecutor",
    "MemberResult",
    "MemberSpec",
    "MixedTrainer",
    "Plan",
    "Progress",
    "RungPlan",
    "Training",
    "Worker",
    "architecture",
    "check_genes",
    "jobs_at_once",
    "largest",
    "network",
    "plan",
    "ray_backend",
    "thread_executor",
]
