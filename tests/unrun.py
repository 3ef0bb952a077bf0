"""The blocks of docs/*.md that no test runs, and what each of them needs. Their commands are parsed
all the same, and imports of their scripts are tried: tests/test_pages.py."""

GPUS = "several GPUs, or weeks of one"
MACHINES = "several machines, or Slurm"
NETWORK = "a service in the network"
WEIGHTS = "published weights; a small model stands for them in other blocks"
DATA = "data of others"
INSTALLS = "it installs, or downloads millions of pictures"
LONG = "hours; a shorter one runs on the page or beside it"
APART = "a test of its own runs it"
LIBRARY = "a library that tests don't install"
SHOWN = "nothing: it is a file, a tree of folders, a table, an equation"

UNRUN = {
    "app": (APART,),
    "compare-runs": (LONG,),
    "compat": (LIBRARY,),
    "concepts": (SHOWN,),
    "data": (NETWORK, DATA),
    "declip": (DATA,),
    "dependencies": (INSTALLS,),
    "deployment": (WEIGHTS,),
    "distillation": (SHOWN,),
    "doctor": (WEIGHTS,),
    "eighteen-billion": (MACHINES, WEIGHTS),
    "evaluation": (SHOWN, WEIGHTS),
    "evaluation-sets": (DATA, WEIGHTS),
    "experiments": (LONG,),
    "extending": (APART, SHOWN, APART, APART, APART, APART),
    "files": (SHOWN,),
    "fine-tune": (WEIGHTS, WEIGHTS, WEIGHTS),
    "formats": (WEIGHTS, WEIGHTS, WEIGHTS, WEIGHTS),
    "from-clip_benchmark": (WEIGHTS,),
    "from-declip": (DATA,),
    "from-eva-clip": (WEIGHTS,),
    "from-eva-clip-18b": (WEIGHTS,),
    "from-unireplknet": (WEIGHTS, GPUS),
    "gpus": (GPUS, MACHINES, MACHINES),
    "index": (WEIGHTS,),
    "install": (INSTALLS, SHOWN),
    "linear-probe": (SHOWN,),
    "log": (LONG, LONG, LONG),
    "object-storage": (NETWORK, NETWORK, NETWORK),
    "prepare-data": (INSTALLS, INSTALLS, INSTALLS, INSTALLS, DATA, INSTALLS),
    "sharding": (GPUS,),
    "slurm": (MACHINES, MACHINES),
    "tracking": (NETWORK,),
    "train-own-pairs": (SHOWN,),
    "training": (WEIGHTS, WEIGHTS, WEIGHTS, MACHINES),
    "unireplknet": (WEIGHTS,),
}
"""Page -> what its blocks need that don't run, in their order."""
