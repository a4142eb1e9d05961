"""How a server starts, drains and reports health; how a channel balances, retries and stays alive."""
