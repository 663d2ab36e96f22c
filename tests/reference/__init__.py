"""The reference in ``docs/reference``, made from the code: ``make reference``.

Each module makes one page.  ``tests/house/test_reference.py`` fails while a page is not what it would make.
"""
