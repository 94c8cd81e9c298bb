from virtio.spec import status


def test_a_status_in_words():
    assert status.describe(0) == "0 (reset)"
    assert status.describe(status.ACKNOWLEDGE | status.DRIVER) == "ACKNOWLEDGE DRIVER"
    assert status.describe(0xFF) == (
        "ACKNOWLEDGE DRIVER FEATURES_OK DRIVER_OK SUSPEND DEVICE_NEEDS_RESET FAILED 0x20"
    )
