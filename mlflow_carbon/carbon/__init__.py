"""Joules to grams of CO2e, offline, with every ingredient on record."""
