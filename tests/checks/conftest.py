from tests.app.conftest import call as call
from tests.app.conftest import keeps_logging as keeps_logging
