"""Where in a server's files the bytes of a salt are."""

from contextlib import suppress

from embedded.valkey import ValkeyServer


def escaped(salt: bytes) -> bytes:
    """As the server writes bytes in its slow log, its own log and MONITOR."""
    plain = {7: b"\\a", 8: b"\\b", 9: b"\\t", 10: b"\\n", 13: b"\\r", 34: b'\\"', 92: b"\\\\"}
    return b"".join(
        plain.get(byte) or (bytes([byte]) if 32 <= byte < 127 else b"\\x%02x" % byte)
        for byte in salt
    )


def files_with(salt: bytes, *servers: ValkeyServer) -> list[str]:
    """Every file of the servers that holds the salt, raw or escaped."""
    forms = (salt, escaped(salt), salt.hex().encode())
    found = []
    for server in servers:
        for path in server.data_dir.rglob("*"):
            with suppress(FileNotFoundError):  # a file of a rewrite that has just ended
                if path.is_file() and any(form in path.read_bytes() for form in forms):
                    found.append(str(path.relative_to(server.data_dir)))
    return found
