"""What a trained model can be asked: checks of itself, likelihoods, embeddings, effects."""
