from tests.app.conftest import call as call
