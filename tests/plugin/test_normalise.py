from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safelight import normalise
from safelight.normalise import MAX_READ_CHARS, MAX_TOTAL_CHARS, MAX_VIEW_CHARS, MAX_VIEWS, View, fold, views
from safelight.request import GenerationRequest, Principal
from safelight.screens.terms import TermsScreen

from plugin import disguises_of_zorblax as samples
