"""What a cold VERSION request costs with pycriu, CRIU's own client in Python: it starts `criu swrk`, asks, reads the
answer and reaps CRIU.

  pycriu-version.py CRIU

pycriu has no call for VERSION: this sends it the way its calls send theirs. For each line that comes in it does so once, and
prints the nanoseconds that it took.
"""
import sys
import time

from pycriu import criu, rpc

for _ in sys.stdin:
    start = time.monotonic_ns()
    client = criu()
    client.use_binary(sys.argv[1])
    request = rpc.criu_req()
    request.type = rpc.VERSION
    response = client._send_req_and_recv_resp(request)
    if not response.success:
        sys.exit('pycriu-version: CRIU said no')
    print(time.monotonic_ns() - start, flush=True)
