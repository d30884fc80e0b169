"""Which step a request goes to, and what cannot be told."""

import json
import signal

from test_http_options import raw

ROUTES = [("Root", "GET", "/"), ("AnyUser", "GET", "/users/:id"), ("Me", "GET", "/users/me"), ("Posts", "GET", "/users/:id/posts"),
          ("MyPosts", "GET", "/users/me/:what"), ("DeleteMe", "DELETE", "/users/me"), ("File", "GET", "/files/:name.txt"),
          ("Slash", "GET", "/slash/"), ("Own", "HEAD", "/own"), ("OwnGet", "GET", "/own"), ("OwnOptions", "OPTIONS", "/own"),
          *((m.title(), m, "/methods") for m in ("GET", "POST", "PUT", "PATCH", "DELETE"))]

STEP = r"""
#include <stepd/step.h>
static int handle(struct stepd_ctx *ctx)
{
	cJSON *params = cJSON_CreateObject();
	for (const char *const *name = (const char *const[]){"id", "what", "name", NULL}; *name; name++)
		if (stepd_param(ctx, *name))
			cJSON_AddStringToObject(params, *name, stepd_param(ctx, *name));
	cJSON *reply = stepd_object(ctx, stepd_str("step", "%s"), stepd_json("params", params));
	cJSON_Delete(params);
	return stepd_reply(ctx, 200, reply);
}
STEPD_STEP(.name = "%s", .handler = handle, .triggers = STEPD_TRIGGERS(STEPD_HTTP("%s", "%s")));
"""


def step(stepd, name, method, path):
    return stepd.step(name.lower(), STEP % (name, name, method, path))


def test_the_most_specific_route_wins(stepd):
    for route in ROUTES:
        step(stepd, *route)
    stepd.start()

    def serves(method, path):
        r = stepd.request(method, path)
        assert r.status == 200, (method, path, r.status, r.body)
        return json.loads(r.body)["step"], json.loads(r.body)["params"]

    assert serves("GET", "/") == ("Root", {})
    assert serves("GET", "/users/7") == ("AnyUser", {"id": "7"})
    assert serves("GET", "/users/me") == ("Me", {})
    assert serves("GET", "/users/me?id=7") == ("Me", {})
    assert serves("GET", "/users/%6de") == ("Me", {})  # the same path
    assert serves("DELETE", "/users/me") == ("DeleteMe", {})
    assert serves("GET", "/users/7/posts") == ("Posts", {"id": "7"})
    assert serves("GET", "/users/me/posts") == ("MyPosts", {"what": "posts"})
    assert serves("GET", "/users/a%2Fb%20%C3%A9+c") == ("AnyUser", {"id": "a/b \u00e9+c"})
    assert serves("GET", "/users/%3Aid") == ("AnyUser", {"id": ":id"})
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        assert serves(method, "/methods")[0] == method.title()
    for path in ("/users", "/users/", "/users/7/", "//", "/slash", "/USERS/7", "/users/me/posts/9"):
        assert stepd.get(path).status == 404, path
    # HEAD is GET without the body, or a route's own
    head, get = stepd.request("HEAD", "/users/7"), stepd.get("/users/7")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(get.body)))
    assert b"HTTP/1.1 200" in raw(stepd, b"HEAD /own HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert serves("OPTIONS", "/own") == ("OwnOptions", {})

    def allowed(method, path, status):
        r = stepd.request(method, path)
        assert r.status == status and (status == 204 or json.loads(r.body)["error"]["code"] == "method_not_allowed")
        return sorted(m.strip() for m in r.headers["allow"].split(","))

    assert allowed("OPTIONS", "/users/7", 204) == ["GET", "HEAD", "OPTIONS"]
    assert allowed("OPTIONS", "/users/me", 204) == ["DELETE", "GET", "HEAD", "OPTIONS"]
    assert allowed("PUT", "/users/me", 405) == ["DELETE", "GET", "HEAD", "OPTIONS"]
    assert allowed("DELETE", "/users/7", 405) == ["GET", "HEAD", "OPTIONS"]
    assert allowed("TRACE", "/methods", 405) == ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]
    assert stepd.request("HEAD", "/slash/nothing").status == 404


def test_one_route_of_two_steps_is_refused(stepd):
    one, two = step(stepd, "One", "GET", "/things/:id"), step(stepd, "Two", "GET", "/things/:name")
    assert stepd.run("--check") == 78
    said = stepd.log()
    assert "GET /things/:" in said and str(one) in said and str(two) in said, said
    two.unlink()
    stepd.start()
    step(stepd, "Two", "GET", "/things/:name")
    mark = stepd.log_mark()
    stepd.send(signal.SIGHUP)  # the old routes stay
    stepd.wait_log("reload failed", mark, 20)
    assert str(one) in stepd.log(mark) and str(two) in stepd.log(mark)
    assert json.loads(stepd.get("/things/1").body)["step"] == "One"
