"""Retrieving images by caption: from openly licensed collections, the user's own archive, or lists of URLs.

A collection (`openverse`, `commons`, `archive`, `listing`) offers *candidates* (`candidates`). `retrieval`
fetches them politely (`downloads`, `web`), discards files that are not images, too small or already there
(`duplicates`), and stores the rest with their provenance (`destinations`, `provenance`). `credits` makes the
credits page.
"""
