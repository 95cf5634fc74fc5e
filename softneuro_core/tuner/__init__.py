"""The exact tuner: numbers in, selection out. Pure; knows neither graphs nor files."""

from softneuro_core.tuner.problem import Conversion, Option, Problem, Selection, Tuner

__all__ = ["Conversion", "Option", "Problem", "Selection", "Tuner"]
