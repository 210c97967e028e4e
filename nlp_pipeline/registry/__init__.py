"""Model registries: numbered versions of finished models, under names that move (`@production`).

`address` says how a version is named, `versions` how they lie in a folder or an object store, `pushing` and `pulling`
how they come in and out. Nothing here imports torch but the clean process that checks a version.
"""
