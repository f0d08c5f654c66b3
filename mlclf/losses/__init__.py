"""Losses for multi-label targets: functions of logits, targets and a mask of known cells, one figure a sample."""

from mlclf.losses.asymmetric import AsymmetricLoss, AsymmetricOptions
from mlclf.losses.balanced import BalancedLoss, BalancedOptions
from mlclf.losses.base import CellLoss, LossOptions, MultiLabelLoss
from mlclf.losses.bce import BceLoss, BceLossOptions
from mlclf.losses.distribution_balanced import DistributionBalancedLoss, DistributionBalancedOptions
from mlclf.losses.focal import FocalLoss, FocalOptions
from mlclf.losses.make import LossChoice, as_loss_options, make_loss
from mlclf.losses.statistics import prior_logits
from mlclf.losses.zlpr import ZlprLoss, ZlprOptions

__all__ = [
    "AsymmetricLoss",
    "AsymmetricOptions",
    "BalancedLoss",
    "BalancedOptions",
    "BceLoss",
    "BceLossOptions",
    "CellLoss",
    "DistributionBalancedLoss",
    "DistributionBalancedOptions",
    "FocalLoss",
    "FocalOptions",
    "LossChoice",
    "LossOptions",
    "MultiLabelLoss",
    "ZlprLoss",
    "ZlprOptions",
    "as_loss_options",
    "make_loss",
    "prior_logits",
]
