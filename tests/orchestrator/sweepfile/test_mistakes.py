"""Mistakes that people make in sweep files: each is answered with its line, its place, and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.errors import UserError

RIGHT = """\
name: x
dataset: digits
model: lenet300
seeds: 2
train: {epochs: 4, batch_size: 64, lr: 0.1}
trials:
  - {method: imp, sparsity: [0.8, 0.9], retrain_epochs: 1, retrain_schedule: FT}
  - {method: gmp, sparsity: 0.9, pruning_interval: 2}
"""

MISTAKES = [
    (
        "sparsity: [0.8, 0.9]",
        "sparsity: 90",
        "7: trials[0].sparsity: 90 is not allowed: a number in [0, 1) (fraction of prunable weights that end",
        "",
    ),
    (
        "sparsity: [0.8, 0.9]",
        "sparsity: 90%",
        '7: trials[0].sparsity: "90%" is not allowed: a number in [0, 1) (fraction of prunable weights that',
        "",
    ),
    (
        "sparsity: [0.8, 0.9]",
        "sparsity: 1.0",
        "7: trials[0].sparsity: 1.0 is not allowed: a number in [0, 1) (fraction of prunable weights that",
        "",
    ),
    (
        "sparsity: [0.8, 0.9]",
        "sparsity: -0.5",
        "7: trials[0].sparsity: -0.5 is not allowed: a number in [0, 1) (fraction of prunable weights that",
        "",
    ),
    (
        "sparsity: [0.8, 0.9]",
        "sparsity: high",
        '7: trials[0].sparsity: "high" is not allowed: a number in [0, 1) (fraction of prunable weights that',
        "",
    ),
    (
        "sparsity: [0.8, 0.9]",
        "sparsity: []",
        "7: trials[0].sparsity: an empty list is not allowed: give at least one value",
        "",
    ),
    (
        "sparsity: [0.8, 0.9]",
        "sparsity: {min: 0.1, max: 0.9}",
        "7: trials[0].sparsity: {min: 0.1, max: 0.9} is not allowed: a number in [0, 1) (fraction of",
        "",
    ),
    (
        "sparsity: [0.8, 0.9]",
        "sparsity: [[0.8], [0.9]]",
        "7: trials[0].sparsity[0]: [0.8] is not allowed: a number in [0, 1) (fraction of prunable weights",
        "",
    ),
    ("sparsity: [0.8, 0.9], ", "", "7: trials[0].sparsity: missing: a number in [0, 1), or phase_fraction", ""),
    (
        "sparsity: [0.8, 0.9]",
        "sparsty: 0.9",
        '7: trials[0].sparsty: unknown key of method imp "sparsty"',
        'did you mean "sparsity"?',
    ),
    (
        "sparsity: [0.8, 0.9]",
        "sparsity:",
        '7: trials[0].sparsity:: unknown key of method imp "sparsity:"',
        'did you mean "sparsity"?',
    ),
    ("method: imp", "method: ipm", '7: trials[0].method: unknown method "ipm"', 'did you mean "imp"?'),
    ("method: imp", "method: IMP", '7: trials[0].method: unknown method "IMP"', 'did you mean "imp"?'),
    ("method: imp", "methods: imp", '7: trials[0].methods: unknown key "methods": write "method"', ""),
    (
        "method: imp, ",
        "",
        "7: trials[0].method: missing: one of acdc, bimp, cs, dense, dnw, dpf, dst, gmp, granet, grasp, gsm,",
        "",
    ),
    ("method: imp", "method: magnitude", '7: trials[0].method: unknown method "magnitude"', ""),
    (
        "retrain_epochs: 1",
        "retrain_epochs: 0",
        "7: trials[0].retrain_epochs: 0 is not allowed: a whole number of at least 1 (epochs of retraining,",
        "",
    ),
    (
        "retrain_epochs: 1",
        "retrain_epochs: 1.5",
        "7: trials[0].retrain_epochs: 1.5 is not allowed: a whole number of at least 1 (epochs of",
        "",
    ),
    (
        "retrain_epochs: 1",
        "retrain_epochs: one",
        '7: trials[0].retrain_epochs: "one" is not allowed: a whole number of at least 1 (epochs of',
        "",
    ),
    (
        "retrain_epochs: 1, ",
        "",
        "7: trials[0].retrain_epochs: give either retrain_epochs (over all phases) or phase_epochs (in each",
        "",
    ),
    (
        "retrain_epochs: 1",
        "retrain_epoch: 1",
        '7: trials[0].retrain_epoch: unknown key of method imp "retrain_epoch"',
        'did you mean "retrain_epochs"?',
    ),
    (
        "retrain_epochs: 1",
        "retrain_budget: 10",
        "7: trials[0].retrain_budget: 10 is not allowed: a percentage of train.epochs, such as 2.22%",
        "",
    ),
    (
        "retrain_epochs: 1",
        "retrain_budget: 1%",
        "7: trials[0].retrain_budget: 1% of 4 epochs is 0.04, which rounds to 0; the smallest that makes an",
        "",
    ),
    (
        "retrain_schedule: FT",
        "retrain_schedule: ft",
        '7: trials[0].retrain_schedule: "ft" is not allowed: one of FT, LRW, SLR, CLR, LLR, ALLR, constant,',
        'did you mean "FT"?',
    ),
    (
        "retrain_schedule: FT",
        "retrain_schedule: cosine",
        "7: trials[0].retrain_lr: retrain_schedule cosine needs retrain_lr, its initial learning rate",
        "",
    ),
    (
        "retrain_schedule: FT",
        "schedule: FT",
        '7: trials[0].schedule: unknown key of method imp "schedule": it belongs into train: {schedule: ...}',
        "",
    ),
    (
        "pruning_interval: 2",
        "pruning_interval: 3",
        "8: trials[1].pruning_interval: an interval of 3 epochs does not fit twice into the 4 epochs of",
        "",
    ),
    (
        "epochs: 4",
        "epochs: 1",
        "8: trials[1].pruning_interval: an interval of 2 epochs does not fit twice into the 1 epoch of training; train",
        "train for at least 2, with a pruning_interval of 1",
    ),
    (
        "pruning_interval: 2",
        "pruning_interval: 0",
        "8: trials[1].pruning_interval: 0 is not allowed: a whole number of at least 1 (epochs between",
        "",
    ),
    (
        "pruning_interval: 2",
        "retrain_epochs: 2",
        '8: trials[1].retrain_epochs: unknown key of method gmp "retrain_epochs"',
        "",
    ),
    ("pruning_interval: 2", "phases: 2", '8: trials[1].phases: unknown key of method gmp "phases"', ""),
    ("dataset: digits", "dataset: cifar-10", '2: dataset: unknown dataset "cifar-10"', 'did you mean "cifar10"?'),
    ("dataset: digits", "dataset: mnst", '2: dataset: unknown dataset "mnst"', 'did you mean "mnist"?'),
    ("dataset: digits", "data: digits", '2: data: unknown key of sweep file "data": write "dataset"', ""),
    ("dataset: digits\n", "", "6: trials[0].dataset: missing: give a dataset here or for the whole file", ""),
    ("dataset: digits", "dataset: {name: digits, path: x}", "2: dataset.path: dataset digits has no options", ""),
    (
        "dataset: digits",
        "dataset: ./images",
        '2: dataset: dataset "./images": for a folder of images write {name: image_folder, path: ./images}',
        "",
    ),
    ("model: lenet300", "model: resnet", '3: model: unknown model "resnet"', 'did you mean "resnet8"?'),
    ("model: lenet300", "model: lenet301", '3: model: unknown model "lenet301"', 'did you mean "lenet300"?'),
    (
        "model: lenet300",
        "model: mine:Net",
        "3: model: cannot load \"mine:Net\": No module named 'mine'; is there a mine.py in this folder?",
        "",
    ),
    (
        "model: lenet300",
        "model: ./mine.py:Net",
        '3: model: cannot load "./mine.py:Net": write "mine:Net", a module that Python finds from this folder',
        "",
    ),
    (
        "model: lenet300",
        "model: {name: resnet18, depth: 5}",
        '3: model.depth: unknown option of model resnet18 "depth"',
        "",
    ),
    (
        "model: lenet300",
        "model: torchvision.models.resnet18",
        '3: model: unknown model "torchvision.models.resnet18"',
        'did you mean "resnet18"?',
    ),
    ("model: lenet300", "network: lenet300", '3: network: unknown key of sweep file "network": write "model"', ""),
    (
        "seeds: 2",
        "seeds: 0",
        "4: seeds: 0 is not allowed: a count of at least 1, or a non-empty list of distinct whole numbers of",
        "",
    ),
    (
        "seeds: 2",
        "seeds: -1",
        "4: seeds: -1 is not allowed: a count of at least 1, or a non-empty list of distinct whole numbers",
        "",
    ),
    ("seeds: 2", "seed: 2", '4: seed: unknown key of sweep file "seed"', 'did you mean "seeds"?'),
    (
        "seeds: 2",
        "seeds: [0, 0]",
        "4: seeds: [0, 0] is not allowed: a count of at least 1, or a non-empty list of distinct whole",
        "",
    ),
    (
        "seeds: 2",
        "seeds: two",
        '4: seeds: "two" is not allowed: a count of at least 1, or a non-empty list of distinct whole',
        "",
    ),
    (
        "epochs: 4",
        "epochs: 0",
        "5: train.epochs: 0 is not allowed: a whole number of at least 1 (epochs of training)",
        "",
    ),
    ("epochs: 4", "epoch: 4", '5: train.epoch: unknown key of train "epoch"', 'did you mean "epochs"?'),
    (
        "epochs: 4",
        "epochs: 4.5",
        "5: train.epochs: 4.5 is not allowed: a whole number of at least 1 (epochs of training)",
        "",
    ),
    (
        "batch_size: 64",
        "batch_size: -1",
        "5: train.batch_size: -1 is not allowed: a whole number of at least 1 (images per iteration)",
        "",
    ),
    ("batch_size: 64", "batchsize: 64", '5: train.batchsize: unknown key of train "batchsize": write "batch_size"', ""),
    ("lr: 0.1", "lr: 1e-1x", '5: train.lr: "1e-1x" is not allowed: a number above 0 (peak learning rate)', ""),
    ("lr: 0.1", "lr: -0.1", "5: train.lr: -0.1 is not allowed: a number above 0 (peak learning rate)", ""),
    ("lr: 0.1", "learning_rate: 0.1", '5: train.learning_rate: unknown key of train "learning_rate": write "lr"', ""),
    (
        "lr: 0.1",
        "optimizer: adamm",
        '5: train.optimizer: unknown optimizer "adamm": allowed are adam, adamw, lamb, rmsprop, sgd or module:name',
        'did you mean "adam"?',
    ),
    (
        "lr: 0.1",
        "optimizer: adamw, momentum: 0.9",
        "5: train.momentum: optimizer adamw has no momentum, which belongs to sgd and rmsprop; its settings are",
        "",
    ),
    (
        "lr: 0.1",
        "betas: [0.9, 0.98]",
        '5: train.betas: unknown key of train "betas": write beta1 and beta2, each with its own value or axis',
        "",
    ),
    (
        "lr: 0.1",
        "beta1: 0.9",
        "5: train.beta1: optimizer sgd has no beta1, which belongs to adamw, adam and lamb; its settings are lr",
        "",
    ),
    (
        "lr: 0.1",
        "optimizer: adamw, beta2: 1",
        "5: train.beta2: 1 is not allowed: a number in [0, 1) (Adam and LAMB: decay of the mean of squared gradients)",
        "",
    ),
    (
        "lr: 0.1",
        "optimizer: rmsprop, eps: 0",
        "5: train.eps: 0 is not allowed: a number above 0 (Adam, LAMB and RMSprop: what is added to the root of",
        "",
    ),
    (
        "lr: 0.1",
        "optimizer: adam, decay_norm_and_bias: false",
        "5: train.decay_norm_and_bias: with weight_decay 0 nothing decays; give a weight_decay",
        "",
    ),
    (
        "lr: 0.1",
        "lr_scale: 0.1",
        "5: train.lr_scale: 0.1 is not allowed: a mapping from patterns to numbers above 0 (factors of the",
        "",
    ),
    (
        "lr: 0.1",
        "lr_scale: {fc1: 0}",
        "5: train.lr_scale: {fc1: 0} is not allowed: a mapping from patterns to numbers above 0 (factors of the",
        "",
    ),
    (
        "lr: 0.1",
        "optimizer: tests.own_training:Restless",
        "5: train.lr: missing: only the optimizers that come with prunesweep have a usual learning rate",
        "",
    ),
    (
        "lr: 0.1",
        "lr: 0.1, optimizer: nowhere:Lion",
        "5: train.optimizer: cannot load \"nowhere:Lion\": No module named 'nowhere'; is there a nowhere.py in",
        "",
    ),
    (
        "lr: 0.1",
        "lr: 0.1, optimizer: tests.own_training:no_optimizer",
        "5: train.optimizer: tests.own_training:no_optimizer is no optimizer: a class derived from torch.optim.Opt",
        "",
    ),
    (
        "lr: 0.1",
        "lr: 0.1, optimizer: tests.own_training:Hidden",
        "5: train.optimizer: tests.own_training:Hidden goes on otherwise from a checkpoint: it keeps something in",
        "",
    ),
    (
        "lr: 0.1",
        "lr: 0.1, optimizer: tests.own_training:Closure",
        "5: train.optimizer: tests.own_training:Closure cannot be used: TypeError: ",
        "missing 1 required positional argument: 'closure'",
    ),
    (
        "lr: 0.1",
        "lr: 0.1, optimizer: tests.own_training:Idle",
        "5: train.optimizer: tests.own_training:Idle moves nothing when it steps",
        "",
    ),
    (
        "lr: 0.1",
        "lr: 0.1, optimizer: tests.own_training:Restless, eps: 0.1",
        "5: train.optimizer: tests.own_training:Restless cannot be used: TypeError: ",
        "unexpected keyword argument 'eps'",
    ),
    (
        "lr: 0.1",
        "lr: 0.1, optimizer: tests.own_training:Restless, beta1: 0.9",
        "5: train.beta1: tests.own_training:Restless is given both as betas, or none; give beta1 and beta2",
        "",
    ),
    (
        "lr: 0.1",
        "schedule: tests.own_training:negative",
        "5: train.schedule: tests.own_training:negative(51, 100) is -0.01",
        "where a factor of train.lr of at least 0 is wanted",
    ),
    (
        "lr: 0.1",
        "schedule: tests.own_training:of_one",
        "5: train.schedule: tests.own_training:of_one is called with an iteration and their number, which fails:",
        "",
    ),
    (
        "lr: 0.1",
        "schedule: tests.own_training:number",
        "5: train.schedule: tests.own_training:number is a int, not a function",
        "",
    ),
    (
        "lr: 0.1",
        "accumulate: 5",
        "5: train.accumulate: 64 images do not divide into 5 equal parts; take one of 2, 4, 8, 16, 32",
        "",
    ),
    (
        "lr: 0.1}",
        "accumulate: 4}\nresources: {replicas: 2}",
        "6: resources: replicas: 2 with train.accumulate: 4 is not allowed: batch norm would see other images",
        "",
    ),
    ("lr: 0.1", "schedule: polynomial", "5: train.power: schedule polynomial needs power", ""),
    ("lr: 0.1", "rise: 0.3", "5: train.rise: schedule linear has no rise", ""),
    (
        "lr: 0.1",
        "schedule: one_cycle, rise: 0.3, warmup_epochs: 1",
        "5: train.warmup_epochs: the rise of one_cycle is its warm-up; leave this out",
        "",
    ),
    (
        "lr: 0.1",
        "schedule: inverse_sqrt",
        "5: train.warmup_epochs: inverse_sqrt falls with the time over that of its warm-up; give it warmup_epochs",
        "",
    ),
    (
        "lr: 0.1",
        "loss: bce",
        '5: train.loss: "bce" is not allowed: one of binary_cross_entropy (loss that is trained with',
        "",
    ),
    (
        "lr: 0.1",
        "target_threshold: 0.2, mixup: 0.1",
        "5: train.target_threshold: it is for targets of loss: binary_cross_entropy; give that, or leave it out",
        "",
    ),
    (
        "lr: 0.1",
        "loss: binary_cross_entropy, target_threshold: 0.2, label_smoothing: 0.1",
        "5: train.target_threshold: without mixup or cutmix it would undo label smoothing; leave it out",
        "",
    ),
    (
        "lr: 0.1",
        "ema: 1",
        "5: train.ema: 1 is not allowed: a number in (0, 1) (decay of the average of weights over iterations",
        "",
    ),
    (
        "lr: 0.1",
        "validate_ema: false",
        "5: train.validate_ema: without train.ema there is no average; give its decay, or leave it out",
        "",
    ),
    (
        "lr: 0.1",
        "ema: 0.99, validate_ema: false, publish_ema: false",
        "5: train.publish_ema: the average would be neither validated nor published; leave train.ema out",
        "",
    ),
    (
        "lr: 0.1",
        "freeze: fc1",
        '5: train.freeze: "fc1" is not allowed: a list of text (patterns of the parameters that do not train',
        "",
    ),
    (
        "method: gmp, sparsity: 0.9, pruning_interval: 2",
        "method: gsm, sparsity: 0.9, train: {optimizer: adamw}",
        "8: trials[1].train.optimizer: gsm is a way to use the momentum of SGD, and adamw divides by the root",
        "",
    ),
    (
        "method: gmp, sparsity: 0.9, pruning_interval: 2",
        "method: lc, sparsity: 0.9, train: {optimizer: adamw}",
        "8: trials[1].train.optimizer: lc takes back the decay that the optimizer adds to gradients, and adamw",
        "",
    ),
    (
        "lr: 0.1",
        "schedule: cosin",
        '5: train.schedule: "cosin" is not allowed: one of constant, step, multistep, exponential, linear,',
        'did you mean "cosine"?',
    ),
    ("lr: 0.1", "schedule: step", "5: train.step_epochs: schedule step needs step_epochs", ""),
    ("lr: 0.1", "warmup_epochs: 9", "5: train.warmup_epochs: 9 warm-up epochs leave none of 4 for training", ""),
    (
        "lr: 0.1",
        "precision: fp16",
        '5: train.precision: "fp16" is not allowed: one of float32, tf32, bfloat16, float64 (arithmetic:',
        "",
    ),
    (
        "lr: 0.1",
        "weight_decay: true",
        "5: train.weight_decay: true is not allowed: a number of at least 0 (weight decay, on all parameters)",
        "",
    ),
    ("lr: 0.1", "lr: 0,1", "5: train: a key that is not a name; keys are text; is it a decimal comma? write 0.1", ""),
    ("lr: 0.1", "[lr]: 0.1", "5: train: a key that is not a name; keys are text", ""),
    (
        "trials:",
        "trial:",
        "1: trials: missing: blocks of trials: a method with its settings, where a list is an axis",
        'did you mean "trials"?',
    ),
    ("trials:\n", "trials: []\nx:\n", "6: trials: an empty list is not allowed: give at least one value", ""),
    (
        "name: x",
        "name: a/b",
        '1: name: "a/b" is not allowed: a folder\'s name of letters, digits, dots, _ and -, at most 100, no',
        "",
    ),
    ("name: x", "nmae: x", '1: nmae: unknown key of sweep file "nmae"', 'did you mean "name"?'),
    ("seeds: 2", "resources: {gpu: 1}", '4: resources.gpu: unknown key of resources "gpu"', 'did you mean "gpus"?'),
    (
        "seeds: 2",
        "resources: {gpus: -1}",
        "4: resources.gpus: -1 is not allowed: a number of GPUs of at least 0, a fraction to share one; more",
        "",
    ),
    (
        "seeds: 2",
        "exclude: [{method: gmpp}]",
        '4: exclude: unknown key of sweep file "exclude": it belongs into a block of trials',
        "",
    ),
    ("train: {", "train: ", "5: not valid YAML: no colon may stand here: put a text that has one into quotes", ""),
    ("  - {method: imp", "  {method: imp", "8: not valid YAML: the indentation does not fit the lines above", ""),
    ("seeds: 2", "seeds: 2\nseeds: 3", "5: seeds: given twice, first on line 4", ""),
    ("seeds: 2", "\tseeds: 2", "4: not valid YAML: a tab; indent with spaces", ""),
    ("trials:", "trials", "6: not valid YAML: a colon is missing in this line", ""),
    ("FT}", "FT", "7: not valid YAML: this { is not closed, or a comma is missing after it", ""),
    ("lr: 0.1", "lr: 0.1, mixupp: 0.2", '5: train.mixupp: unknown key of train "mixupp"', 'did you mean "mixup"?'),
    ("lr: 0.1", "lr: 0.1, mixup_alpha: 1", '5: train.mixup_alpha: unknown key of train "mixup_alpha"', 'write "mixup"'),
    (
        "lr: 0.1",
        "lr: 0.1, mixup: 0",
        "5: train.mixup: 0 is not allowed: a number above 0 (mixup: parameter of the beta distribution",
        "",
    ),
    ("lr: 0.1", "lr: 0.1, cutmix: -1", "5: train.cutmix: -1 is not allowed: a number above 0", ""),
    (
        "lr: 0.1",
        "lr: 0.1, randaugment: 31",
        "5: train.randaugment: 31 is not allowed: a whole number in [0, 30] (RandAugment: strength of its",
        "",
    ),
    (
        "lr: 0.1",
        "lr: 0.1, random_erasing: 25",
        "5: train.random_erasing: 25 is not allowed: a number in [0, 1]",
        "0.25?",
    ),
    (
        "lr: 0.1",
        "lr: 0.1, randaugment: 9, trivialaugment: true",
        "5: train.trivialaugment: RandAugment and TrivialAugment both choose the operations; leave one of them",
        "",
    ),
    (
        "lr: 0.1",
        "lr: 0.1, randaugment_operations: 3",
        "5: train.randaugment_operations: without RandAugment there are none; give its strength, such as",
        "randaugment: 9",
    ),
    (
        "seeds: 2",
        "validation: {fraction: 1.0}",
        "4: validation.fraction: 1.0 is not allowed: a number between 0 and 1 (share of the training images)",
        "",
    ),
    ("seeds: 2", "validation: {fraction: 0}", "4: validation.fraction: 0 is not allowed: a number between 0", ""),
    ("seeds: 2", "validation: 0.2", "4: validation: 0.2 is not allowed: a mapping of settings", ""),
    ("seeds: 2", "validation: {share: 0.2}", '4: validation.share: unknown key of validation "share"', "fraction"),
    ("seeds: 2", "validation: {seed: -1}", "4: validation.seed: -1 is not allowed: a whole number of at least 0", ""),
    (
        "sparsity: 0.9, p",
        "prune: {except: last}, sparsity: 0.9, p",
        '8: trials[1].prune.except: "last" is not allowed: a list of patterns, such as [first, last]',
        "",
    ),
    ("seeds: 2", "prune: {exept: [last]}", '4: prune.exept: unknown key of prune "exept"', 'did you mean "except"?'),
    ("seeds: 2", "prune: [last]", '4: prune: ["last"] is not allowed: a mapping of settings', ""),
    ("seeds: 2", "except: [last]", '4: except: unknown key of sweep file "except"', ""),
    (
        "{method: gmp, sparsity: 0.9, pruning_interval: 2}",
        "{method: dense, prune: {except: [last]}}",
        '8: trials[1].prune: unknown key of method dense "prune"',
        "",
    ),
    (
        "{method: imp, sparsity: [0.8, 0.9], retrain_epochs: 1, retrain_schedule: FT}",
        "{method: imp, sparsity: 0.8, rewind_epoch: 1}",
        "7: trials[0].retrain_schedule: with rewind_epoch the dense schedule goes on from that epoch, which is LRW",
        "give retrain_schedule: LRW",
    ),
    (
        "retrain_epochs: 1, retrain_schedule: FT",
        "rewind_epoch: 4, retrain_schedule: LRW",
        "7: trials[0].rewind_epoch: 4 is not before the end of 4 epochs (train.epochs)",
        "",
    ),
    (
        "retrain_epochs: 1, retrain_schedule: FT",
        "retrain_epochs: 1, rewind_epoch: 0, retrain_schedule: LRW",
        "7: trials[0].retrain_epochs: with rewind_epoch 0 each phase trains the 4 epochs left of 4",
        "",
    ),
    (
        "retrain_schedule: FT",
        "criterion: random",
        '7: trials[0].criterion: "random" is not allowed: one of magnitude, fisher, movement',
        "",
    ),
    (
        "retrain_schedule: FT",
        "criterion: [magnitude, movement], allocation: lamp",
        "7: trials[0].allocation: lamp ranks by magnitude; criterion movement takes global, uniform or erk",
        "",
    ),
    (
        "retrain_schedule: FT",
        "allocation: 4:2",
        '7: trials[0].allocation: "4:2" is no pattern: N:M keeps N of every M weights',
        'such as "2:4"',
    ),
    (
        "retrain_schedule: FT",
        "allocation: 2:4",
        "7: trials[0].sparsity[0]: 0.8 is not allowed: by the other settings it is 0.5; leave one out",
        "",
    ),
    (
        "method: imp, sparsity: [0.8, 0.9], retrain_epochs: 1, retrain_schedule: FT",
        "method: rigl, sparsity: 0.5, allocation: 2:4",
        '7: trials[0].allocation: "2:4" is not allowed: one of erk, uniform, first_dense (',
        "no pattern N:M, since weights grow anywhere in a layer",
    ),
    (
        "method: imp, sparsity: [0.8, 0.9], retrain_epochs: 1, retrain_schedule: FT",
        "method: small_dense, sparsity: 0.9, model: squeezenet1_0",
        "7: trials[0].model: small_dense: squeezenet1_0 cannot be made narrower; it takes lenet300, lenet5,",
        "networks of one's own with an option that scales them",
    ),
    (
        "method: imp, sparsity: [0.8, 0.9], retrain_epochs: 1, retrain_schedule: FT",
        "method: small_dense, sparsity: 0.9, model: {name: resnet8, size: 0.5}",
        "7: trials[0].model: small_dense: its sparsity says how small the network is; leave size out",
        "",
    ),
    (
        "method: imp, sparsity: [0.8, 0.9], retrain_epochs: 1, retrain_schedule: FT",
        "method: small_dense, sparsity: 0.9, scales: [width]",
        "7: trials[0].scales: lenet300 is made narrower by itself, or not at all; leave it out",
        "",
    ),
    (
        "method: imp, sparsity: [0.8, 0.9], retrain_epochs: 1, retrain_schedule: FT",
        "method: small_dense, sparsity: 0.9, prune: {except: [first]}",
        "7: trials[0].prune",
        "",
    ),
    (
        "seeds: 2",
        "init: net.pt",
        '4: init: "net.pt" is not allowed: {path: FILE}, {torchvision: TAG}, {timm: true}, {timm: TAG} or {sweep: NAME',
        "for a file write {path: net.pt}",
    ),
    ("seeds: 2", "init: {pth: net.pt}", '4: init.pth: unknown key of init "pth": allowed are head,', '"path"?'),
    ("seeds: 2", "init: {head: new}", '4: init: {head: "new"} is not allowed: one of {path: FILE}', ""),
    ("seeds: 2", "init: {path: a, timm: true}", "4: init: {", "is not allowed: one of {path: FILE}"),
    ("seeds: 2", "init: {path: a, head: old}", '4: init.head: "old" is not allowed: new, or leave it out', ""),
    (
        "seeds: 2",
        "init: {path: a, tag: b}",
        '4: init.tag: unknown key of init with path "tag": allowed are head, key,',
        "",
    ),
    ("seeds: 2", "init: {sweep: x}", "4: init: missing: trial, the key of a trial of x (column `trial`)", ""),
    ("seeds: 2", "init: {timm: 1}", "4: init.timm: 1 is not allowed: true, or the tag of timm's weights", ""),
    (
        "seeds: 2",
        "init: {path: net.pt}",
        "7: trials[0].retrain_schedule: FT takes its learning rates from the training that the network comes from",
        "8: trials[1].train_from_init.epochs: missing: gmp trains the network that init gives: say how long",
    ),
    (
        "seeds: 2",
        "train_from_init: {epochs: 2}",
        "4: train_from_init: has no effect, since there is no init; leave it out",
        "",
    ),
    (
        "gmp, sparsity: 0.9, pruning_interval: 2",
        "gmp, sparsity: 0.9, train_from_init: {epochs: 2}",
        "8: trials[1].train_f",
        "",
    ),
    (
        "{method: gmp, sparsity: 0.9, pruning_interval: 2}",
        "{method: gsm, sparsity: 0.9, init: {path: a}, train_from_init: {epochs: 2, lr: 0.1, optimizer: adamw}}",
        "8: trials[1].train_from_init.optimizer: gsm is ",
        "train it with sgd",
    ),
    (
        "seeds: 2",
        "task: segmentation",
        "4: task: task segmentation needs masks as targets, and dataset digits has classes: say task: classification",
        "",
    ),
    (
        "dataset: digits",
        "dataset: {name: mask_folder, path: photos}",
        "7: trials[0].task: task classification needs classes as targets, and dataset mask_folder has masks",
        "say task: segmentation",
    ),
    (
        "seeds: 2",
        "task: tests.own_training:Restles",
        '4: task: cannot load "tests.own_training:Restles": tests.own_training has no Restles',
        'did you mean "Restless"?',
    ),
    ("seeds: 2", "zip: {lr: [1]}", '4: zip: unknown key of sweep file "zip": it belongs into a block of trials', ""),
]
"""What is written in the place of what is right, how the answer begins, and the name that it asks about."""


def test_what_is_right_is_read(tmp_path: Path):
    (tmp_path / "x.yaml").write_text(RIGHT)
    assert len(read_sweep(tmp_path / "x.yaml").trials) == 6


def test_there_are_sixty_and_more():
    assert len({(wrong, before) for before, wrong, _, _ in MISTAKES}) == len(MISTAKES) >= 60


@pytest.mark.parametrize(("right", "wrong", "answer", "asks"), MISTAKES)
def test_a_mistake_is_answered_in_a_sentence(right: str, wrong: str, answer: str, asks: str, tmp_path: Path):
    file = tmp_path / "x.yaml"
    assert right in RIGHT
    file.write_text(RIGHT.replace(right, wrong, 1))
    with pytest.raises(UserError) as refused:
        read_sweep(file)
    said = str(refused.value)
    assert said.startswith(f"{file}:{answer}")
    assert asks in said
