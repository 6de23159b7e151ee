#!/bin/sh
# numba writes where it reads, so the kernels compiled with the image go where it may write. Not into the state, which
# outlives the image: numba does not notice that what a kernel calls has changed.
if ! cp -RT /opt/spotwise/kernels "$NUMBA_CACHE_DIR"; then
    echo "spotwise: $NUMBA_CACHE_DIR cannot be written (--tmpfs /tmp); compiling at this start" >&2
    # where numba then writes
    rm -rf /state/.cache/numba
fi
exec /opt/spotwise/bin/spotwise "$@"
