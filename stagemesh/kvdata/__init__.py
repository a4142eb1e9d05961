"""The direct data path: block bytes straight from and to Redis over sockets of its own, without copies or joins."""
