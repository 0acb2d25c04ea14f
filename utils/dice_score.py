"""Dice functions where users of the original import them; no module here imports this one."""

from utils.evaluation.dice import dice_coeff, dice_loss, multiclass_dice_coeff

__all__ = ['dice_coeff', 'dice_loss', 'multiclass_dice_coeff']
