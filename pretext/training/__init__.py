"""One pretraining run: the engine, its loop, schedules and optimisers, and the folder that belongs to it."""
