"""Running a sweep: the driver, its queue of stages, Ray Tune, what fails, and what is told meanwhile."""
