"""What changes the weights: recipes, optimizer, loss, BatchNorm statistics, guard."""
