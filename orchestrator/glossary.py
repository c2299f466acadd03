"""Methods, schedules and terms in a line each, for reports, `list schedules` and docs/glossary.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prunesweep.workers.spec import TrialSpec

METHODS: Mapping[str, str] = {
    "dense": "training without pruning: the control",
    "small_dense": "a narrower dense network of about as many weights, not pruned: the control that pruning must beat "
    "(Zhu & Gupta 2017)",
    "imp": "iterative magnitude pruning: a trained network loses its smallest weights and is retrained, in one "
    "or several phases (Han et al. 2015)",
    "bimp": "budgeted IMP: dense training is cut short, so that pruning and retraining fit into the epochs of one "
    "training (Zimmer et al. 2023)",
    "random": "pruning at random with the retraining of IMP: a second control (Blalock et al. 2020)",
    "gmp": "gradual magnitude pruning: the smallest weights are pruned every few epochs, until the target is reached "
    "(Zhu & Gupta 2017)",
    "gsm": "global sparse momentum SGD: only the weights that matter most for the loss get a gradient, and the others "
    "decay (Ding et al. 2019)",
    "dpf": "dynamic pruning with feedback: masks change during training, and pruned weights go on learning "
    "(Lin et al. 2020)",
    "dnw": "discovering neural wirings: every iteration uses the largest weights only, and all weights learn "
    "(Wortsman et al. 2019)",
    "lc": "learning-compression: weight decay acts on the smallest weights only (Carreira-Perpinan & Idelbayev 2018)",
    "str": "soft threshold reparameterization: each layer learns a threshold, by which all its weights shrink "
    "(Kusupati et al. 2020)",
    "dst": "dynamic sparse training: each neuron or filter learns a threshold, below which its weights are zero "
    "(Liu et al. 2020)",
    "static": "a random mask that is drawn before training and stays: the control of SET and RigL (Evci et al. 2020)",
    "set": "sparse evolutionary training: sparse from the start; now and then the smallest weights are dropped, and "
    "others grow at random (Mocanu et al. 2018)",
    "rigl": "the rigged lottery: sparse from the start; now and then the smallest weights are dropped, and others grow "
    "where gradients are large (Evci et al. 2020)",
    "snip": "single-shot pruning of the initial weights: those stay that the loss feels most (Lee et al. 2019)",
    "grasp": "pruning of the initial weights: those stay without which the gradient would lose most (Wang et al. 2020)",
    "synflow": "pruning of the initial weights without data, in rounds, by the paths through the network that each is "
    "part of (Tanaka et al. 2020)",
    "acdc": "alternating compressed and decompressed training: phases with the largest weights alone and dense ones "
    "take turns (Peste et al. 2021)",
    "granet": "gradual pruning from a network that is half sparse; each prune also drops the smallest weights, and "
    "others grow where gradients are large (Liu et al. 2021)",
    "sr_ste": "N:M sparsity: of every M weights in a row the N largest are used, and the others learn and shrink "
    "(Zhou et al. 2021)",
    "cs": "continuous sparsification: each weight learns whether it stays (Savarese et al. 2020)",
}
"""Of every method that comes with prunesweep, how it makes a network sparse."""

TRAINING: Mapping[str, str] = {
    "constant": "one learning rate",
    "step": "the rate is multiplied by gamma every step_epochs epochs",
    "multistep": "the rate is multiplied by gamma at each milestone",
    "exponential": "the rate is multiplied by gamma per epoch, a little at every iteration",
    "linear": "a straight line from the peak to end_lr",
    "cosine": "half a cosine from the peak to end_lr",
    "polynomial": "from the peak to end_lr with a power of what is left of the training",
    "one_cycle": "half a cosine up from a 25th of the peak, then half a cosine down to end_lr (Smith & Topin 2018)",
    "inverse_sqrt": "the peak times the square root of the warm-up's length over the time (Vaswani et al. 2017)",
}
"""Of every schedule of `train.schedule`, what the learning rate does."""

SCHEDULES: Mapping[str, str] = {
    "FT": "fine-tuning: the last learning rate of dense training, held constant (Han et al. 2015)",
    "LRW": "learning rate rewinding: the last epochs of the dense schedule once more (Renda et al. 2020)",
    "SLR": "scaled learning rate restarting: the whole dense schedule in the time of retraining (Le & Hua 2021)",
    "CLR": "cyclic learning rate restarting: half a cosine from the largest dense rate to the smallest (Le & Hua 2021)",
    "LLR": "linear learning rate restarting: a line from the largest dense rate to zero (Zimmer et al. 2023)",
    "ALLR": "adaptive linear restarting: LLR with a lower start where pruning changed little or retraining is short "
    "(Zimmer et al. 2023)",
    "constant": "one learning rate, retrain_lr",
    "stepped": "retrain_lr, divided by ten at one half and again at three quarters",
    "cosine": "half a cosine from retrain_lr to zero",
    "linear": "a line from retrain_lr to zero",
}
"""Of every retraining schedule, what the learning rate does."""

TERMS: Mapping[str, str] = {
    "sparsity": "the share of the prunable weights that are zero",
    "20+2 epochs": "20 epochs of training before the first prune, and 2 of retraining after it",
    "theoretical speedup": "multiply-adds of the dense network divided by those that remain; it is not a measured time",
    "training FLOPs": "operations of the training as papers count them, with its pretraining, as a multiple of dense "
    "training; not what the hardware computed",
    "layer collapse": "a layer kept no weight, so that nothing gets through it; marked with ‡",
    "compression": "parameters of the dense network divided by those that are not zero",
}


def methods(trials: Iterable[TrialSpec]) -> dict[str, str]:
    """The methods of these trials. One's own are left out: a report imports no code that a store names."""
    names = dict.fromkeys(trial.method.name for trial in trials)
    return {name: METHODS[name] for name in names if name in METHODS}


def schedules(trials: Iterable[TrialSpec]) -> dict[str, str]:
    """The retraining schedules of these trials."""
    options = (dict(trial.method.options).get("retrain_schedule") for trial in trials)
    names = dict.fromkeys(name for name in options if isinstance(name, str))
    return {name: SCHEDULES[name] for name in names if name in SCHEDULES}
