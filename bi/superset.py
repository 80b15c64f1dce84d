#!/usr/bin/env python3
"""Makes a dashboard in Apache Superset by its REST API: datasets of the views for analysts, four charts, and where they stand.

SUPERSET_PASSWORD=… bi/superset.py http://localhost:8088 admin postgresql://bi@localhost/shop
"""
import json
import os
import sys
import urllib.error
import urllib.request
import uuid

DAYS = """SELECT d.day, COALESCE(p.segment, 'unscored') AS segment, sum(d.count) AS transactions, sum(d.sum) AS value
FROM profile_stream.metric_days('total_transaction_value_30d', current_date - 90, current_date) d
JOIN profile_stream.bi_profiles p USING (customer_id) GROUP BY 1, 2"""


def aggregate(label, sql):
    return {"expressionType": "SQL", "sqlExpression": sql, "label": label}


CUSTOMERS = aggregate("customers", "count(*)")
VALUE = aggregate("value", "sum(value)")
# name, dataset, kind, form
CHARTS = [
    ("Customers", "bi_profiles", "big_number_total", {"metric": CUSTOMERS, "subheader": "with an event", "y_axis_format": ",d", "header_font_size": 0.3}),
    ("Customers by segment", "bi_profiles", "pie",
     {"groupby": ["segment"], "metric": CUSTOMERS, "label_type": "key_value", "donut": True, "show_legend": False}),
    ("Segments", "bi_profiles", "table", {"query_mode": "aggregate", "groupby": ["segment"], "metrics": [
        CUSTOMERS, aggregate("value, 30 days", "sum(total_transaction_value_30d)"), aggregate("churn risk", "round(avg(churn_risk_score)::numeric, 2)"),
        aggregate("lifetime value", "sum(lifetime_value)")], "order_desc": True, "timeseries_limit_metric": CUSTOMERS, "column_config": {
            "value, 30 days": {"d3NumberFormat": ",d"}, "lifetime value": {"d3NumberFormat": ",d"}}}),
    ("Value of transactions by day and segment", "value_by_day", "echarts_area",
     {"x_axis": "day", "time_grain_sqla": "P1D", "metrics": [VALUE], "groupby": ["segment"], "stack": "Stack", "x_axis_sort_asc": True,
      "rich_tooltip": True, "show_legend": True, "row_limit": 10000}),
]


class Superset:
    def __init__(self, url, user, password):
        self.url = url
        self.token = None
        self.token = self.post("security/login", {"username": user, "password": password, "provider": "db"})["access_token"]

    def call(self, method, path, body=None):
        request = urllib.request.Request(f"{self.url}/api/v1/{path}", method=method, data=None if body is None else json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            sys.exit(f"{method} {path}: {error} {error.read().decode()}")

    def post(self, path, body):
        return self.call("POST", path, body)


def place(ids):
    """The layout of the dashboard: three charts in a row, and the fourth below them."""
    layout = {"DASHBOARD_VERSION_KEY": "v2", "ROOT_ID": {"id": "ROOT_ID", "type": "ROOT", "children": ["GRID_ID"]},
              "GRID_ID": {"id": "GRID_ID", "type": "GRID", "children": [], "parents": ["ROOT_ID"]}}
    for row, width in ((ids[:3], (2, 4, 6)), (ids[3:], (12,))):
        name = f"ROW-{len(layout)}"
        layout["GRID_ID"]["children"].append(name)
        layout[name] = {"id": name, "type": "ROW", "children": [], "parents": ["ROOT_ID", "GRID_ID"], "meta": {"background": "BACKGROUND_TRANSPARENT"}}
        for (chart, title), columns in zip(row, width):
            key = f"CHART-{chart}"
            layout[name]["children"].append(key)
            layout[key] = {"id": key, "type": "CHART", "children": [], "parents": ["ROOT_ID", "GRID_ID", name],
                           "meta": {"chartId": chart, "width": columns, "height": 38, "sliceName": title, "uuid": str(uuid.uuid4())}}
    return layout


def main():
    if len(sys.argv) != 4 or "SUPERSET_PASSWORD" not in os.environ:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    url, user, uri = sys.argv[1:]
    superset = Superset(url, user, os.environ["SUPERSET_PASSWORD"])
    database = superset.post("database/", {"database_name": "profile_stream", "sqlalchemy_uri": uri, "expose_in_sqllab": True})["id"]
    datasets = {"bi_profiles": superset.post("dataset/", {"database": database, "schema": "profile_stream", "table_name": "bi_profiles"})["id"],
                "value_by_day": superset.post("dataset/", {"database": database, "schema": "profile_stream", "table_name": "value_by_day", "sql": DAYS})["id"]}
    board = superset.post("dashboard/", {"dashboard_title": "Customers", "published": True, "slug": "customers"})["id"]
    charts = []
    for name, dataset, kind, form in CHARTS:
        form = {**form, "datasource": f"{datasets[dataset]}__table", "viz_type": kind, "adhoc_filters": []}
        chart = superset.post("chart/", {"slice_name": name, "viz_type": kind, "datasource_id": datasets[dataset], "datasource_type": "table",
                                         "params": json.dumps(form), "dashboards": [board]})["id"]
        charts.append((chart, name))
    superset.call("PUT", f"dashboard/{board}", {"position_json": json.dumps(place(charts)), "json_metadata": json.dumps({"show_chart_timestamps": False})})
    print(f"{url}/superset/dashboard/customers/")


main()
