"""simple-salesforce, the usual Python client, against the fake of Salesforce. Usage: against_the_fake.py MOUNT TOKEN

The client always writes https://host/services/..; an adapter sends that to the fake, which is plain HTTP below a path.
Prints one line for each thing that works; the first that does not ends it."""

import sys
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from simple_salesforce import Salesforce, format_soql
from simple_salesforce.exceptions import SalesforceMalformedRequest, SalesforceResourceNotFound

mount, token = sys.argv[1:3]
where = urlsplit(mount)


class ToTheFake(HTTPAdapter):
    def send(self, request, **more):
        asked = urlsplit(request.url)
        path = asked.path if asked.path.startswith(where.path) else where.path + asked.path
        request.url = asked._replace(scheme="http", netloc=where.netloc, path=path).geturl()
        return super().send(request, **more)


session = requests.Session()
session.mount("https://", ToTheFake())
sf = Salesforce(instance="acme.my.salesforce.com", session_id=token, session=session, version="66.0")

assert any(kind["name"] == "Contact" for kind in sf.describe()["sobjects"])
assert any(field["name"] == "Hub_Id__c" and field["externalId"] for field in sf.Contact.describe()["fields"])
print("describe")

found = sf.query(format_soql("SELECT Id, Account.Name FROM Contact WHERE LastName = {}", "O'Hara"))
assert found["totalSize"] == 1 and found["records"][0]["Account"]["Name"] == "Bob's BBQ", found
print("query")

made = sf.Contact.create({"LastName": "Python", "Email": "py@example.com"})
assert made["success"] and sf.Contact.get(made["id"])["LastName"] == "Python"
assert sf.Contact.update(made["id"], {"Phone": "1"}) == 204
assert sf.Contact.upsert("Hub_Id__c/py-1", {"LastName": "Upsert"}) == 201
assert sf.Contact.upsert("Hub_Id__c/py-1", {"LastName": "Again"}) == 200
assert sf.Contact.get_by_custom_id("Hub_Id__c", "py-1")["LastName"] == "Again"
assert sf.Contact.delete(made["id"]) == 204
print("create, get, update, upsert, delete")

try:
    sf.query("SELECT Nope FROM Contact")
    raise AssertionError("a wrong field was taken")
except SalesforceMalformedRequest as error:
    assert error.content[0]["errorCode"] == "INVALID_FIELD", error.content
try:
    sf.Contact.get(made["id"])
    raise AssertionError("a deleted record was found")
except SalesforceResourceNotFound as error:
    assert error.content[0]["errorCode"] == "ENTITY_IS_DELETED", error.content
print("errors")

records = [{"attributes": {"type": "Product2"}, "Name": f"P{at:04}"} for at in range(2100)]
for start in range(0, len(records), 200):
    answer = sf.restful("composite/sobjects", method="POST", json={"records": records[start : start + 200]})
    assert all(one["success"] for one in answer), answer
names = [one["Name"] for one in sf.query_all_iter("SELECT Name FROM Product2 WHERE Name LIKE 'P%' ORDER BY Name")]
assert len(names) == 2100 and names == sorted(names), len(names)
print("query_all over pages")

assert sf.search("FIND {Acme} IN ALL FIELDS RETURNING Account(Id, Name)")["searchRecords"][0]["Name"] == "Acme"
assert sf.limits()["DailyApiRequests"]["Max"] == 15000
assert sf.api_usage["api-usage"].total == 15000, sf.api_usage
print("search, limits")

jobs = sf.bulk2.Contact.insert(records=[{"LastName": f"Bulk {at}", "Email": f"b{at}@example.com"} for at in range(20)])
assert [(job["numberRecordsProcessed"], job["numberRecordsFailed"]) for job in jobs] == [(20, 0)], jobs
pages = list(sf.bulk2.Contact.query("SELECT Id, LastName FROM Contact WHERE LastName LIKE 'Bulk %'", max_records=8))
assert len(pages) == 3 and sum(page.count("Bulk ") for page in pages) == 20, pages
print("bulk2")
