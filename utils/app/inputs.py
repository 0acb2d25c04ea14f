"""Inputs whose values may, for a moment, be none that they offer; Gradio would end the event.

Their checks are replaced in the object, because Gradio writes a file beside each class of its own.
"""

from typing import Any

import gradio as gr


def any_number(slider: gr.Slider) -> Any:
    """Return a slider whose number may be empty, or beyond its ends, while it is typed."""

    def nearest(payload: float | None) -> float:
        """Return the number, or the nearest end, or 0.5 without one."""
        return 0.5 if payload is None else min(max(payload, slider.minimum), slider.maximum)

    return _checked_by(nearest, slider)


def any_choice(dropdown: gr.Dropdown) -> Any:
    """Return a choice of whole numbers that may have changed since one was chosen."""

    def whole(payload: object) -> int:
        """Return the number, 1 for anything else."""
        return payload if isinstance(payload, int) else 1

    return _checked_by(whole, dropdown)


def _checked_by(check: Any, component: Any) -> Any:
    component.preprocess = check
    return component
