"""What a release rests on and how it is made: proof, derivation of the production chart, image
copies, publishing.
"""
