"""The runtime of stages. Nothing is imported here: a stage pays for every module that its interpreter loads."""
