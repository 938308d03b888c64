"""`server.py PORT [KEY_FILE]`: a ZenML server with sign-in, on this process's configuration; with KEY_FILE a service
account's API key is made and written there first."""
import sys

import uvicorn
from zenml.client import Client

if len(sys.argv) > 2:
    Client().create_service_account("worker")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(Client().create_api_key("worker", "key").key)
uvicorn.run("zenml.zen_server.zen_server_api:app", host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
