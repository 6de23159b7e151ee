"""STS: who is calling."""

from __future__ import annotations

from optimizer.fake_aws.api.call import Action, Reply, Request


def get_caller_identity(request: Request) -> Reply:
    """A user named by the access key."""
    account = request.cloud.options.account
    user = request.access_key or "anonymous"
    return {"UserId": user, "Account": account, "Arn": f"arn:aws:iam::{account}:user/{user}"}


ACTIONS = {"GetCallerIdentity": Action(get_caller_identity)}
