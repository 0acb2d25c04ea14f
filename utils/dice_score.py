"""The original's module of Dice functions, for users' imports; nothing here imports it."""

from utils.evaluation.dice import dice_coeff, dice_loss, multiclass_dice_coeff

__all__ = ['dice_coeff', 'dice_loss', 'multiclass_dice_coeff']
