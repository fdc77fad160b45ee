"""Safelight stands between people and a diffusion model: prompts are read, pictures are looked at, refusals say why."""

from .config import build, read_settings
from .creation import Admission, Creation, Picture
from .dropin.previews import Previews
from .errors import (
    ConfigError,
    ContentBlocked,
    CoolDown,
    GenerationFailed,
    InvalidRequest,
    MissingExtra,
    SafelightError,
    ScreeningUnavailable,
    StoreUnavailable,
    UnjudgedChannel,
    UnscreenedPipeline,
)
from .guard import Guard, GuardSettings, Observer
from .normalise import View
from .pipeline import protect
from .policy import Action, Decision, Policy, Reason
from .request import GenerationRequest, History, Principal, Turn
from .verdict import Category, Outcome, Stage, Verdict

__all__ = [
    "Action",
    "Admission",
    "Category",
    "ConfigError",
    "ContentBlocked",
    "CoolDown",
    "Creation",
    "Decision",
    "GenerationFailed",
    "GenerationRequest",
    "Guard",
    "GuardSettings",
    "History",
    "InvalidRequest",
    "MissingExtra",
    "Observer",
    "Outcome",
    "Picture",
    "Policy",
    "Previews",
    "Principal",
    "Reason",
    "SafelightError",
    "ScreeningUnavailable",
    "Stage",
    "StoreUnavailable",
    "Turn",
    "UnjudgedChannel",
    "UnscreenedPipeline",
    "Verdict",
    "View",
    "build",
    "protect",
    "read_settings",
]
