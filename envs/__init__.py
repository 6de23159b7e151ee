"""Workloads on markets as Gymnasium environments and one batched VecEnv.

Importing this package registers `spotwise/DeadlineJob-v0` and `spotwise/Service-v0`, so
`gymnasium.make("spotwise/Service-v0")` works after `import envs`, and
`gymnasium.make("envs:spotwise/Service-v0")` without it.
"""

from gymnasium.envs.registration import register

register(id="spotwise/DeadlineJob-v0", entry_point="envs.deadline_env:DeadlineEnv")
register(id="spotwise/Service-v0", entry_point="envs.service_env:ServiceEnv")
