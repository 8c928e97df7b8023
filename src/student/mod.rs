//! Derives a student from a teacher: which channels go together, how wide it may be under the budgets.
