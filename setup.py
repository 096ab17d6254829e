"""Kept for tools that still call it; everything is said in setup.cfg."""

from setuptools import setup

setup()
