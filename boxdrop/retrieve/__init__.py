"""Images by a caption: openly licensed collections, the user's own archive, lists of addresses.

A collection offers *candidates* (`candidates`): `openverse`, `commons`, `archive`, `listing`. `retrieval`
fetches them politely (`downloads`, `web`), drops what is no image, too small or there already (`duplicates`),
and keeps the rest with its provenance (`destinations`, `provenance`). `credits` makes the page that names
whom to credit.
"""
