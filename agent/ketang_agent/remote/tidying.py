"""The tidying child: ``python -m ketang_agent.remote.tidying JSON``, then it ends.

Lets go of models and releases of the agent that neither the configuration in force names nor the
one before it, nor the watcher uses. A child, since only that keeps what it loads out of the
supervisor's memory. It may be killed at any moment.
"""

import json
import sys
from pathlib import Path

from ketang_agent.remote import agent_store, model_store
from ketang_agent.remote.model_store import Chosen


def main(arguments: list[str]) -> int:
    """Tidy up as the one argument says: ``parts`` writes it."""
    said = json.loads(arguments[0])
    models = Path(said["models"])
    if models.is_dir():
        model_store.tidy(models, [Chosen(*one) for one in said["kept_models"]])
    if said["versions"]:
        agent_store.prune(Path(said["versions"]), set(said["kept_versions"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
