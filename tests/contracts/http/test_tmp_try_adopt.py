import os, subprocess, sys
from served_api import Api, OPS_TOKEN
from test_http_adopt import given_up

def test_try(api: Api) -> None:
    given_up(api, "failed")
    env = os.environ | {"UA_HQ_BASE_URL": f"http://127.0.0.1:{api.port}", "UA_OPS_TOKEN": OPS_TOKEN}
    for args in (["missions","show","j-1"],["why","j-1"],["missions","adopt","j-1","--attempt","2"],["missions","adopt","j-1","--attempt","1","--reason","looked at it"],["missions","adopt","j-1","--attempt","1","--json"],["why","j-1-r1"],["missions","show","j-1-r1"],["dead-letters","list","--status","all"]):
        r = subprocess.run([sys.executable,"-m","corporation.cli",*args],env=env,capture_output=True,text=True)
        print("$ corporation", *args, "->", r.returncode); print(r.stdout, r.stderr)
