//! Installing, updating and uninstalling, and what stands there before and after.
