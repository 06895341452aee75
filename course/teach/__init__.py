"""Exercises: checks, students' copies and grading."""
