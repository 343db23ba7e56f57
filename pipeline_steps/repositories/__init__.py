"""Chart repositories: find, fetch and publish packed charts by URL. What is in a chart stands in
`charts`.
"""
