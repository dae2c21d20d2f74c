"""Runnable images: a bundle, its environment and a base become OCI images, without a daemon, without root, without RUN.

from slipway_bundle.image.adding import ImageOptions, add_images
"""
