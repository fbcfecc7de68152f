//! Kinds of apps and where each is held, and the ways to ask for a graduation.
