"""What every stage is: a servicer over models, a dynamic batcher, and the route to the next hop."""
