import pytest

pytest.register_assert_rewrite("memspan.testing")  # failed laws show the values that they compared
