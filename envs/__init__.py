"""Workloads on markets as Gymnasium environments and one batched VecEnv."""
