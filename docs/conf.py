"""The site: `bash .ci/docs` builds it into build/site, where every warning is an error."""

import sys
import tomllib
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
# What the pages are made of: docs/_site, and bench, whose pictures and lessons they show.
sys.path[:0] = [str(DOCS / "_site"), str(ROOT)]

import api  # noqa: E402
import pages  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "nnfast"
author = PROJECT["authors"][0]["name"]
copyright = author
version = release = PROJECT["version"]

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "api",
    "pages",
]
root_doc = "index"
exclude_patterns = ["_site", "_templates", "gallery/*", "bench/*.json"]
templates_path = ["_templates"]

# ---- the reference ----

autosummary_generate = True
autosummary_filename_map = api.filenames()
autodoc_typehints = "none"  # the docstrings say it in words
numpydoc_show_class_members = False  # a class page has its methods in full
toc_object_entries_show_parents = "hide"

# ---- the pages ----

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
suppress_warnings = ["config.cache"]  # the gallery's settings have a function in them

# ---- the gallery ----

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("matplotlib", pages.scrape_picture),
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 10**6,
    "show_memory": False,
    "write_computation_times": False,
    "copyfile_regex": "",
    "abort_on_example_error": True,
}

# ---- looks ----

html_theme = "pydata_sphinx_theme"
html_title = f"nnfast {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sidebars = {name: [] for name in ("index", "install", "start")}
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "nnfast"},
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "show_nav_level": 1,
    "navigation_depth": 3,
    "collapse_navigation": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
