-- Caller: content.read_content. One row a feature's node with its label.
SELECT sae, latent, label FROM node WHERE kind = 'feature' ORDER BY sae, latent
