"""How many steps a run wants, and the note where it has fewer."""

# Steps of a new network, see dev/LOG.md, 2026-11-27; those of classic and paper rest on few runs.
# Networks that are trained already, as with --load, want fewer.
ENOUGH_STEPS = {'fast': 400, 'classic': 1000, 'paper': 1000}


def enough_epochs(recipe: str, steps_per_epoch: int) -> int:
    """Return the fewest epochs that have ENOUGH_STEPS of the recipe."""
    return -(-ENOUGH_STEPS[recipe] // steps_per_epoch)


def note_of_few_steps(recipe: str, epochs: int, steps_per_epoch: int) -> list[str]:
    """Return a line where a new network is trained for fewer steps than its recipe wants."""
    steps, enough = epochs * steps_per_epoch, enough_epochs(recipe, steps_per_epoch)
    if epochs >= enough:
        return []
    auto = ', or -e auto' if recipe == 'fast' else ''
    return [
        f'note: {steps} steps are few: recipe {recipe} wants about {ENOUGH_STEPS[recipe]}, and '
        f'with fewer the Dice stays under what the network can reach. Try -e {enough}{auto}.'
    ]
