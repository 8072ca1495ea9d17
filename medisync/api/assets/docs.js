// Shows the API's documentation; what is tried out goes with the login cookie and the page's token.
"use strict";

const holder = document.getElementById("docs");

function cookie(name) {
  const found = document.cookie.split("; ").find((one) => one.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
}

SwaggerUIBundle({
  url: "/api/openapi.json",
  domNode: holder,
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
  requestInterceptor: (request) => {
    request.headers["X-CSRF-Token"] = cookie(holder.dataset.csrf);
    return request;
  },
});
